"""Networks for 32x32 images: `build(depth, width, num_classes)`."""

from models.resnet import DEPTHS, ResNet, build

__all__ = ["DEPTHS", "ResNet", "build"]
