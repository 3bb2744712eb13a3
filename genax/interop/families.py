"""The Hugging Face classes that genax reads and writes: one entry a family."""

from __future__ import annotations

from collections.abc import Mapping

from genax.interop import (
    autoencoders,
    bert,
    decision_transformer,
    dit,
    gpt,
    llama,
    mamba,
    mamba2,
    marian,
    t5,
    unet2d,
    unet2d_condition,
    vision_text_dual_encoder,
    vit,
)
from genax.interop.architecture import Architecture, Family

FAMILIES: tuple[Family, ...] = (
    bert.FAMILY,
    gpt.FAMILY,
    llama.FAMILY,
    mamba.FAMILY,
    mamba2.FAMILY,
    marian.FAMILY,
    t5.FAMILY,
    vit.FAMILY,
    decision_transformer.FAMILY,
    vision_text_dual_encoder.FAMILY,
    dit.FAMILY,
    unet2d.FAMILY,
    unet2d.NCSNPP,
    unet2d_condition.FAMILY,
    autoencoders.FAMILY,
    autoencoders.VQ,
)
ARCHITECTURES: Mapping[str, Architecture] = {
    name: architecture for family in FAMILIES for name, architecture in family.architectures.items()
}
