"""Published names of Mask2Former and Mask2Former-VIS -> ours, and the sizes of their models.

Sources: Mask2Former (pixel_decoder/msdeformattn.py, transformer_decoder/), SyncVIS (syncvis_model.py,
modeling/transformer_decoder/).
"""

from __future__ import annotations

from typing import Any

from syncvis.interop.names.naming import Family, Naming
from syncvis.interop.names.sizes import Sizes
from syncvis.models.pixel_decoder import NUM_LEVELS
from syncvis.structures import Level

_LAYERS = "decoder.stacks.0.layers."
_HEADS = "decoder.stacks.0.heads."

MASK2FORMER = Naming(
    title="Mask2Former",
    marker=r"^sem_seg_head\.",
    prefix="",
    rules=(
        # Files older than version 2 of the head.
        (r"^sem_seg_head\.(?!pixel_decoder\.|predictor\.)", "sem_seg_head.pixel_decoder."),
        (r"\.static_query\.", ".query_feat."),
        # Pixel decoder.
        (r"^sem_seg_head\.pixel_decoder\.", "pixel_decoder."),
        (r"^pixel_decoder\.transformer\.level_embed$", "pixel_decoder.level_embed"),
        (r"^pixel_decoder\.transformer\.encoder\.", "pixel_decoder."),
        (r"^pixel_decoder\.layers\.(\d+)\.self_attn\.", r"pixel_decoder.layers.\1.attention."),
        (r"^pixel_decoder\.layers\.(\d+)\.norm1\.", r"pixel_decoder.layers.\1.norm."),
        (r"^pixel_decoder\.layers\.(\d+)\.linear([12])\.", r"pixel_decoder.layers.\1.ffn.linear\2."),
        (r"^pixel_decoder\.layers\.(\d+)\.norm2\.", r"pixel_decoder.layers.\1.ffn.norm."),
        (r"^pixel_decoder\.adapter_1\.weight$", "pixel_decoder.lateral.0.weight"),
        (r"^pixel_decoder\.adapter_1\.norm\.", "pixel_decoder.lateral.1."),
        (r"^pixel_decoder\.layer_1\.weight$", "pixel_decoder.smooth.0.weight"),
        (r"^pixel_decoder\.layer_1\.norm\.", "pixel_decoder.smooth.1."),
        # Query decoder.
        (r"^sem_seg_head\.predictor\.", "decoder."),
        (r"^decoder\.transformer_cross_attention_layers\.(\d+)\.multihead_attn\.", rf"{_LAYERS}\1.cross_attention."),
        (r"^decoder\.transformer_cross_attention_layers\.(\d+)\.norm\.", rf"{_LAYERS}\1.cross_norm."),
        (r"^decoder\.transformer_self_attention_layers\.(\d+)\.self_attn\.", rf"{_LAYERS}\1.self_attention."),
        (r"^decoder\.transformer_self_attention_layers\.(\d+)\.norm\.", rf"{_LAYERS}\1.self_norm."),
        (r"^decoder\.transformer_ffn_layers\.(\d+)\.", rf"{_LAYERS}\1.ffn."),
        (r"_attention\.out_proj\.", "_attention.output."),
        (r"^decoder\.level_embed\.", "decoder.stacks.0.level_embed."),
        (r"^decoder\.decoder_norm\.", f"{_HEADS}norm."),
        (r"^decoder\.class_embed\.", f"{_HEADS}class_embed."),
        (r"^decoder\.mask_embed\.layers\.0\.", f"{_HEADS}mask_embed.0."),
        (r"^decoder\.mask_embed\.layers\.1\.", f"{_HEADS}mask_embed.2."),
        (r"^decoder\.mask_embed\.layers\.2\.", f"{_HEADS}mask_embed.4."),
        # Queries. The released SyncVIS numbers those of its video level 1.
        (r"^decoder\.query_feat\.", "decoder.query_sets.frame.content."),
        (r"^decoder\.query_embed\.", "decoder.query_sets.frame.position."),
        (r"^decoder\.query_feat1\.", "decoder.query_sets.video.content."),
        (r"^decoder\.query_embed1\.", "decoder.query_sets.video.position."),
    ),
    skipped=(
        (r"^(\w+_)?criterion\.empty_weight$", "class weights of the loss, which the config gives"),
        (r"^pixel_(mean|std)$", "constants of the model"),
    ),
    unused=(
        (r"^sem_seg_head\.predictor\.multi_attn\.", "exchange of the released SyncVIS, one for both directions"),
        (r"^sem_seg_head\.predictor\.FFN_[123]\.", "feed-forward parts of the released SyncVIS' exchange"),
        (r"^sem_seg_head\.predictor\.query_feat[2-5]\.", "queries that the released SyncVIS never reads"),
    ),
    parts=("backbone", "pixel_decoder", "decoder"),
)

CLASS_HEAD = f"{_HEADS}class_embed.weight"
"""Its rows are the classes and, last, "no object"."""

STRUCTURES: dict[Level, str] = {"frame": "frame_only", "video": "video_only"}

_QUERIES = "decoder.query_sets.frame.content.weight"
_ENCODER = "pixel_decoder.layers.0"


def model_entries(sizes: Sizes, heads: int, points: int) -> dict[str, Any]:
    """The section ``model`` of everything that is built on Mask2Former's blocks."""
    backbone, queries = sizes.backbone(), sizes.size(_QUERIES)
    return {
        "hidden_dim": sizes.size(_QUERIES, 1),
        "mask_dim": sizes.size("pixel_decoder.mask_features.weight"),
        "backbone": backbone.model_dump(),
        "pixel_decoder": {
            "layers": sizes.layers("pixel_decoder.layers."),
            "heads": sizes.size(f"{_ENCODER}.attention.attention_weights.weight") // (NUM_LEVELS * points),
            "points": points,
            "ffn_dim": sizes.size(f"{_ENCODER}.ffn.linear1.weight"),
        },
        "decoder": {
            "layers": sizes.layers(_LAYERS),
            "heads": heads,
            "ffn_dim": sizes.size(f"{_LAYERS}0.ffn.linear1.weight"),
            "frame_queries": queries,
            "video_queries": queries,
        },
    }


def entries(sizes: Sizes, level: Level, heads: int, points: int) -> dict[str, Any]:
    """Mask2Former has frame queries only, Mask2Former-VIS video queries only."""
    return {
        "model": model_entries(sizes, heads, points),
        "method": {"structure": STRUCTURES[level]},
        "sync": None,
        "subclips": None,
    }


FAMILY = Family("Mask2Former", entries=entries)
