"""What llama.cpp cannot be asked about an architecture: numbers that agree, and silent tensors.

`tests.support.architectures` finds out the rest. The names and numbers are llama.cpp's own
(llama-arch.cpp, and src/models/ for each architecture).
"""

from __future__ import annotations

from collections.abc import Mapping

Value = int | float | bool | list[int | float | bool]

NEWER = (
    *("bailingmoe3", "cohere2moe", "deepseek32", "deepseek4", "dflash", "dots3note", "eagle3"),
    *("gemma4-assistant", "glm5-next", "granite_swa", "graniteswitch", "hrm_text", "hy_v3"),
    *("hy_v4", "kimi-k3", "laguna", "maple", "mellum", "minimax-01", "minimax-m3"),
    *("muse-glimmer", "nanbeige", "pockettts", "qwen3tts", "qwen4exp", "spark2_5", "talkie"),
)
"""Architectures of llama.cpp in llama-cpp-python 0.3.36 that gguf 0.19 has no name for."""

MOE: Mapping[str, Value] = {
    "expert_count": 4,
    "expert_used_count": 2,
    "expert_feed_forward_length": 128,
    "expert_shared_feed_forward_length": 128,
    "expert_shared_count": 1,
    "leading_dense_block_count": 1,
    "expert_weights_scale": 1.0,
    "expert_weights_norm": True,
    "expert_gating_func": 2,
    "expert_group_count": 2,
    "expert_group_used_count": 1,
    "interleave_moe_layer_step": 1,
}
MLA: Mapping[str, Value] = {
    "attention.q_lora_rank": 64,
    "attention.kv_lora_rank": 64,
    "attention.key_length_mla": 128,
    "attention.value_length_mla": 64,
    "attention.head_count_kv": 1,
    "attention.key_length": 128,
    "attention.value_length": 64,
}
INDEXER: Mapping[str, Value] = {
    "attention.indexer.head_count": 4,
    "attention.indexer.key_length": 128,
    "attention.indexer.top_k": 64,
    "attention.indexer.kpool": 4,
    "attention.indexer.types": [1, 1, 1, 1],
}
SSM: Mapping[str, Value] = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 512,
    "ssm.state_size": 16,
    "ssm.time_step_rank": 16,
    "ssm.group_count": 1,
}
HYBRID: Mapping[str, Value] = {**SSM, "attention.head_count_kv": [0, 2, 0, 2]}
DELTA: Mapping[str, Value] = {
    **SSM,
    "ssm.state_size": 64,
    "ssm.time_step_rank": 8,
    "ssm.group_count": 4,
    "attention.key_length": 64,
    "attention.value_length": 64,
    "rope.dimension_sections": [8, 8, 8, 8],
}
KDA: Mapping[str, Value] = {
    **MOE,
    **MLA,
    **SSM,
    "kda.head_dim": 64,
    "attention.head_count_kv": [0, 0, 0, 1],
}
HYPER: Mapping[str, Value] = {
    "hyper_connection.count": 4,
    "hyper_connection.sinkhorn_iterations": 4,
    "hyper_connection.epsilon": 1e-6,
    "hyper_connection.magnitude": 1.0,
    "hyper_connection.low_rank": 32,
}
WKV: Mapping[str, Value] = {
    "wkv.head_size": 64,
    "time_mix_extra_dim": 32,
    "time_decay_extra_dim": 32,
    "attention.decay_lora_rank": 32,
    "attention.iclr_lora_rank": 32,
    "attention.value_residual_mix_lora_rank": 32,
    "attention.gate_lora_rank": 32,
}
WINDOWS: Mapping[str, Value] = {"attention.sliding_window_pattern": [True, True, True, False]}
NARROW: Mapping[str, Value] = {"attention.key_length": 64, "attention.value_length": 64}
EQUAL: Mapping[str, Value] = {"attention.head_count_kv": 4}

PRESETS: Mapping[str, Mapping[str, Value]] = {
    **{name: {**MOE, **MLA} for name in ("deepseek2", "mistral4")},
    **{name: {**MOE, **MLA, **INDEXER} for name in ("deepseek32", "glm-dsa")},
    "dots3note": {
        **{**MOE, **MLA, **INDEXER, **WINDOWS},
        "attention.kv_lora_rank_swa": 64,
        "attention.key_length_mla_swa": 128,
        "attention.value_length_mla_swa": 64,
        "rope.freq_base_swa": 10_000.0,
    },
    "hy_v4": {**MOE, **MLA, **INDEXER, **HYPER},
    "minimax-m3": {
        **{**MOE, **INDEXER, **NARROW, **EQUAL},
        "attention.indexer.block_size": 64,
        "attention.indexer.local_blocks": 1,
    },
    "minicpm3": {**MLA, **EQUAL},
    "plm": {"attention.kv_lora_rank": 64, "attention.key_length": 128, **EQUAL},
    "jamba": {**HYBRID, **MOE},
    "lfm2": HYBRID,
    "lfm2moe": {**HYBRID, **MOE},
    "granitehybrid": HYBRID,
    "plamo2": {**HYBRID, "ssm.group_count": 0},
    "falcon-h1": SSM,
    "nemotron_h": {
        **HYBRID,
        "attention.head_count_kv": [0, 2, 0, 0],
        "feed_forward_length": [0, 0, 512, 0],
    },
    "nemotron_h_moe": {
        **{**HYBRID, **MOE},
        "attention.head_count_kv": [0, 2, 0, 0],
        "feed_forward_length": [0, 0, 512, 0],
    },
    "qwen35": DELTA,
    **{name: {**DELTA, **MOE} for name in ("qwen3next", "qwen35moe")},
    "qwen4exp": {**DELTA, **MOE, **HYPER, **INDEXER},
    "kimi-linear": KDA,
    "kimi-k3": {
        **KDA,
        "attn_res.block_size": 2,
        "activation.situ_beta": 1.0,
        "activation.situ_linear_beta": 1.0,
    },
    "bailingmoe3": {**KDA, "kda.safe_gate": True, "kda.gate_lower_bound": -5.0},
    "glm5-next": {
        **{**KDA, **INDEXER, **HYPER, **NARROW},
        "rope.dimension_count": 0,
        "attention.key_length_mla": 64,
    },
    "minimax-01": {**MOE, **NARROW, "residual_scale": 1.0, "full_attention_interval": 4},
    **{name: {**WKV, **EQUAL} for name in ("rwkv6", "rwkv7")},
    **{name: {**WKV, **EQUAL, "token_shift_count": 1} for name in ("rwkv6qwen2", "arwkv7")},
    "deepseek4": {
        **{**MOE, **MLA, **INDEXER, **HYPER},
        "swiglu_clamp_exp": 7.0,
        "attention.output_group_count": 2,
        "attention.output_lora_rank": 64,
        "attention.compress_rope_freq_base": 10_000.0,
        "attention.compress_ratios": [0, 4, 128, 4],
        "attention.value_length": 128,
        "hash_layer_count": 1,
        "expert_gating_func": 4,
    },
    "gemma4": {
        **WINDOWS,
        "embedding_length_per_layer_input": 64,
        "attention.key_length_swa": 64,
        "attention.value_length_swa": 64,
    },
    **{name: {**MOE, **WINDOWS} for name in ("maple", "laguna")},
    **{
        name: {**MOE, "attention.sliding_window_pattern": [1, 1, 1, 0]}
        for name in ("mimo2", "step35")
    },
    **dict.fromkeys(("gemma3", "gemma3n", "granite_swa", "plamo3", "spark2_5"), WINDOWS),
    **dict.fromkeys(("granitemoe", "hy_v3"), MOE),
    "nomic-bert-moe": {**MOE, "moe_every_n_layers": 2},
    **{name: {**MOE, **EQUAL} for name in ("olmoe", "deepseek2-ocr", "dots1")},
    "grovemoe": {
        **MOE,
        "expert_group_count": 1,
        "experts_per_group": 2,
        "expert_chunk_feed_forward_length": 64,
    },
    "chameleon": EQUAL,
    "t5encoder": EQUAL,
    "gemma-embedding": {**WINDOWS, "attention.causal": False},
    "paddleocr": {"rope.dimension_sections": [8, 8, 8, 8]},
    "apertus": {f"xielu.{name}": [1.0] * 4 for name in ("alpha_n", "alpha_p", "beta", "eps")},
    "hrm_text": {"hrm.layers_per_stack": 1, "hrm.h_cycles": 2, "hrm.l_cycles": 1},
    "graniteswitch": {
        "adapters.count": 1,
        "adapters.lora_rank": 32,
        "adapters.token_ids_activate": [1],
        "adapters.token_ids_substitute": [2],
        "logit_scale": 1.0,
    },
    **{name: {"attention.causal": False} for name in ("bert", "nomic-bert", "modern-bert")},
}
"""Numbers that must agree with each other, or that llama.cpp does not ask for and cannot do
without."""

EXPERTS: Mapping[str, tuple[int, ...]] = {
    f"blk.[123].ffn_{name}.weight": (1,)
    for name in ("gate_inp", "gate_exps", "up_exps", "down_exps")
}
SILENT: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "phi3": {"blk.[0123].attn_qkv.weight": (1,)},
    "jina-bert-v2": {"blk.[0123].ffn_up.weight": (256, 512)},
    **{
        name: {"blk.[012].attn_qkv.weight": (1,), "blk.[012].attn_gate.weight": (1,)}
        for name in ("qwen35", "qwen3next", "qwen35moe")
    },
    **dict.fromkeys(("hy_v3", "mimo2", "step35"), EXPERTS),
    "falcon-h1": {"blk.[0123].ssm_conv1d.bias": (1,)},
    "granitehybrid": {"blk.[02].ssm_conv1d.bias": (1,)},
    **{name: {"blk.[03].ssm_conv1d.bias": (1,)} for name in ("nemotron_h", "nemotron_h_moe")},
    "rwkv6": {"blk.[0123].time_mix_lerp_fused.weight": (1,)},
    "laguna": {"blk.[0123].attn_gate.weight": (256, 4)},
    "t5encoder": {"enc.blk.[0123].attn_rel_b.weight": (1,)},
    "pockettts": {"blk.[0123].attn_qkv.weight": (1,)},
    "glm-dsa": {
        "blk.[0123].indexer.k_norm.weight": (1,),
        "blk.[0123].indexer.k_norm.bias": (1,),
        "blk.[0123].indexer.proj.weight": (1,),
        "blk.[0123].indexer.attn_k.weight": (1,),
        "blk.[0123].indexer.attn_q_b.weight": (1,),
    },
}
"""Tensors that llama.cpp does not miss when it reads the header, but when it evaluates, by layers.
It corrects their shapes."""

UNFIT: Mapping[str, str] = {
    "dflash": "It only guesses for another model, and runs inside that one.",
    "eagle3": "It only guesses for another model, and runs inside that one.",
    "gemma4-assistant": "It only guesses for another model, and runs inside that one.",
    "wavtokenizer-dec": "It turns the tokens of another model into sound.",
}
"""Architectures that llama.cpp reads, and that neither answer nor embed by themselves."""

TOKENS: Mapping[str, int] = {"chameleon": 8192}
"""Fillers that a vocabulary must have: this one's names images from its fifth on."""

DEFAULTS: Mapping[str, Value] = {
    **{**MOE, **MLA, **SSM, **INDEXER, **HYPER, **WKV},
    "attention.head_count_kv": 2,
    "attention.key_length": 64,
    "attention.value_length": 64,
    "moe_every_n_layers": 1,
    "full_attention_interval": 4,
    "shortconv.l_cache": 3,
    "attention.max_alibi_bias": 8.0,
    "attention.clamp_kqv": 8.0,
    "logit_scale": 1.0,
    "use_parallel_residual": True,
    "attention.causal": True,
    "rope.scaling.yarn_log_multiplier": 0.1,
    "router_logit_softcapping": 30.0,
    "attention.sliding_window_pattern": 2,
    "attention.shared_kv_layers": 0,
    "embedding_length_per_layer_input": 64,
    "attention.temperature_length": 8192,
    "attention.temperature_scale": 1.0,
    "rope.dimension_sections": [8, 8, 8, 8],
    "attention.relative_buckets_count": 32,
    "expert_group_scale": 1.0,
    "swiglu_clamp_exp": 7.0,
}
"""What is answered when llama.cpp misses a key."""
