"""The detectors of the field, as configs."""

from regioncap.encoders.detection.attributes import AttributesConfig, NoAttributesConfig
from regioncap.encoders.detection.box_heads import Layer4HeadConfig, MeanMlpHeadConfig, MlpHeadConfig
from regioncap.encoders.detection.detector import DetectorConfig
from regioncap.encoders.detection.efficientnet_fpn import EfficientNetFpnConfig
from regioncap.encoders.detection.resnet import ResNetC4Config, ResNetFpnConfig


def efficientnet_fpn(
    classes: tuple[str, ...], attributes: AttributesConfig | None = None, trunk: EfficientNetFpnConfig | None = None
) -> DetectorConfig:
    """Return a detector for photographs on a CPU: EfficientNet-Lite0, frozen, under a pyramid at strides 8, 16, 32.

    Anchors and the size at which a box changes level are for objects in pictures of 224 px.
    """
    return DetectorConfig(
        classes=classes,
        attributes=attributes or NoAttributesConfig(),
        trunk=trunk or EfficientNetFpnConfig(),
        head=MeanMlpHeadConfig(hidden=256, dim=256),
        anchor_sizes=(16, 28, 44, 70, 110, 170),
        aspect_ratios=(0.5, 1.0, 2.0),
        proposals_before_nms=200,
        proposals=100,
        sampled_anchors=128,
        sampled_rois=64,
        roi_size=5,
        last_map="names",
        roi_scale=80,
    )


def resnet50_c4(
    classes: tuple[str, ...], attributes: AttributesConfig | None = None, trunk: ResNetC4Config | None = None
) -> DetectorConfig:
    """Return the detector of the paper's Table 2: conv4 of ResNet-50, RoI 7x7, conv5 as head, 2048-d regions.

    The 512 channels of the proposal network and the positive share of a quarter are those of bottom-up attention.
    """
    return DetectorConfig(
        classes=classes,
        attributes=attributes or NoAttributesConfig(),
        trunk=trunk or ResNetC4Config(),
        head=Layer4HeadConfig(),
        anchor_sizes=(64, 128, 256),
        aspect_ratios=(0.5, 1.0, 2.0),
        proposal_channels=512,
        proposals_before_nms=1000,
        proposals=100,
        sampled_anchors=256,
        sampled_rois=64,
        positive_share=0.25,
        roi_size=7,
        roi_samples=2,
    )


def resnet50_fpn(
    classes: tuple[str, ...], attributes: AttributesConfig | None = None, trunk: ResNetFpnConfig | None = None
) -> DetectorConfig:
    """Return torchvision's `fasterrcnn_resnet50_fpn`, with its defaults: 1024-d regions."""
    return DetectorConfig(
        classes=classes,
        attributes=attributes or NoAttributesConfig(),
        trunk=trunk or ResNetFpnConfig(),
        head=MlpHeadConfig(),
        anchor_sizes=(32, 64, 128, 256, 512),
        aspect_ratios=(0.5, 1.0, 2.0),
        proposals_before_nms=1000,
        proposals=1000,
        sampled_anchors=256,
        sampled_rois=512,
        positive_share=0.25,
        roi_size=7,
        roi_samples=2,
    )
