"""ResNet-18/34/50 (He et al. 2016, table 1) for small images, with a 3x3 stem and no pooling, or with the
stem that He et al. have for ImageNet.

Parameter names, strides and initialization (PyTorch's default) are those of kuangliu/pytorch-cifar,
which the released PT4AL code uses: its checkpoints load here. With the stem `imagenet` and width 64 the
outputs are those of torchvision's resnet18/34/50 with the same weights (a test maps their names). `width`
is the number of channels of the first stage; 64 is the paper's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; (n, c_in, h, w) -> (n, c, h/stride, w/stride)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = make_shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; the output has 4 times `channels`."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = make_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


def make_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """The identity where shapes agree, else a strided 1x1 convolution with batch norm."""
    if stride == 1 and in_channels == out_channels:
        return nn.Sequential()
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class ResNet(nn.Module):
    """(n, 3, h, w) float images -> (n, num_classes) logits. Any h and w of 8 or more will do.

    Args:
        stem: small, a 3x3 convolution (design size 32), or imagenet, a 7x7 convolution of stride 2 and a 3x3
            max pooling of stride 2, after which a sixteenth of the positions is left (design size 224).
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        blocks_per_stage: tuple[int, int, int, int],
        width: int = 64,
        num_classes: int = 10,
        stem: str = "small",
    ) -> None:
        super().__init__()
        # channels_last is the fastest order, but with fewer than 16 channels the gradient of the
        # strided 1x1 convolution writes outside its memory there (torch 2.14, CPU).
        self.memory_format = torch.channels_last if width >= 16 else torch.contiguous_format
        size, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = nn.Conv2d(3, width, size, stride, padding=size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if stem == "imagenet" else nn.Identity()
        in_channels = width
        for stage, blocks in enumerate(blocks_per_stage):
            channels = width * 2**stage
            layers = []
            for i in range(blocks):
                layers.append(block(in_channels, channels, 2 if stage > 0 and i == 0 else 1))
                in_channels = channels * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(in_channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, 8 * width), times 4 for bottlenecks: what the last layer sees."""
        x = x.contiguous(memory_format=self.memory_format)
        out = self.pool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return out.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x))


DEPTHS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


def build(depth: int, width: int, num_classes: int, stem: str = "small") -> ResNet:
    """A ResNet of 18, 34 or 50 layers with fresh weights drawn from torch's global generator."""
    block, blocks_per_stage = DEPTHS[depth]
    return ResNet(block, blocks_per_stage, width, num_classes, stem)
