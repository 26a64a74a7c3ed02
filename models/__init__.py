"""Networks: `build(depth, width, num_classes)` for 32x32 images, and a linear classifier for features."""

from models.linear import LinearClassifier
from models.resnet import DEPTHS, ResNet, build

__all__ = ["DEPTHS", "LinearClassifier", "ResNet", "build"]
