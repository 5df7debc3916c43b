"""Published names of VITA's second stage, our temporal module -> ours, and the sizes of its models.

Sources: VITA (vita_model.py, modeling/transformer_decoder/vita.py); the released SyncVIS (syncvis_model.py) and its
older name ``vfi`` have the same stage.
"""

from __future__ import annotations

from typing import Any

from syncvis.interop.names.mask2former import model_entries
from syncvis.interop.names.naming import Family, Naming
from syncvis.interop.names.sizes import Sizes
from syncvis.structures import Level

SECOND_STAGE = Naming(
    title="VITA's second stage",
    marker=r"^(vita|vfi|syncvis)_module\.",
    prefix="temporal.",
    rules=(
        (r"^(vita|vfi|syncvis)_module\.", ""),
        (r"^(vita|vfi|syncvis)_mask_features\.", "mask_features."),
        # Encoder of the frame queries.
        (r"^input_proj_dec\.", "encoder.projection."),
        (r"^enc_self_attn\.(\d+)\.self_attn\.", r"encoder.layers.\1.attention."),
        (r"^enc_self_attn\.(\d+)\.norm\.", r"encoder.layers.\1.norm."),
        (r"^enc_ffn\.(\d+)\.", r"encoder.layers.\1.ffn."),
        # Clip decoder.
        (r"^query_feat\.", "decoder.queries.content."),
        (r"^query_embed\.", "decoder.queries.position."),
        (r"^fq_pos\.", "decoder.frame_code."),
        (r"^transformer_cross_attention_layers\.(\d+)\.multihead_attn\.", r"decoder.layers.\1.cross_attention."),
        (r"^transformer_cross_attention_layers\.(\d+)\.norm\.", r"decoder.layers.\1.cross_norm."),
        (r"^transformer_self_attention_layers\.(\d+)\.self_attn\.", r"decoder.layers.\1.self_attention."),
        (r"^transformer_self_attention_layers\.(\d+)\.norm\.", r"decoder.layers.\1.self_norm."),
        (r"^transformer_ffn_layers\.(\d+)\.", r"decoder.layers.\1.ffn."),
        (r"attention\.out_proj\.", "attention.output."),
        # Heads.
        (r"^decoder_norm\.", "heads.norm."),
        (r"^class_embed\.", "heads.class_embed."),
        (r"^mask_embed\.layers\.0\.", "heads.mask_embed.0."),
        (r"^mask_embed\.layers\.1\.", "heads.mask_embed.2."),
        (r"^mask_embed\.layers\.2\.", "heads.mask_embed.4."),
        (r"^sim_embed_frame\.", "frame_similarity."),
        (r"^sim_embed_clip\.", "clip_similarity."),
    ),
)


def entries(sizes: Sizes, level: Level, heads: int, points: int) -> dict[str, Any]:
    """VITA without video queries, as it computes in the published code; ``heads`` are those of all attention.

    No shape tells the window of the encoder and how many branches training has; they are the published ones.
    """
    layers = "temporal.{}.layers."
    method = {
        "name": "vita",
        "clip_queries": sizes.size("temporal.decoder.queries.content.weight"),
        "heads": heads,
        "ffn_dim": sizes.size("temporal.decoder.layers.0.ffn.linear1.weight"),
        "encoder_layers": sizes.layers(layers.format("encoder")),
        "decoder_layers": sizes.layers(layers.format("decoder")),
        "compat": True,
    }
    return {"model": model_entries(sizes, heads, points), "method": method, "sync": None, "subclips": None}


FAMILY = Family("VITA", additions=(SECOND_STAGE,), entries=entries)
