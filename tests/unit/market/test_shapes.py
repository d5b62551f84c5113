import pytest

from kwanzaa_compute.market.shapes import find_shape, known_models, shape_from_config_json

# Published parameter counts, in billions.
PUBLISHED = {
    "allenai/OLMo-7B-Instruct-hf": 6.89,
    "allenai/OLMo-1B-hf": 1.18,
    "allenai/OLMo-2-1124-7B-Instruct": 7.30,
    "allenai/OLMo-2-0425-1B-Instruct": 1.48,
    "allenai/OLMo-2-1124-13B-Instruct": 13.72,
    "meta-llama/Llama-3.1-8B-Instruct": 8.03,
    "meta-llama/Llama-3.2-1B-Instruct": 1.24,
    "meta-llama/Llama-3.2-3B-Instruct": 3.21,
    "mistralai/Mistral-7B-Instruct-v0.3": 7.25,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7.62,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1.54,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": 70.55,
    "Qwen/Qwen2.5-0.5B-Instruct": 0.494,
    "Qwen/Qwen2.5-3B-Instruct": 3.09,
    "Qwen/Qwen2.5-14B-Instruct": 14.77,
    "Qwen/Qwen2.5-32B-Instruct": 32.76,
    "Qwen/Qwen3-0.6B": 0.596,
    "Qwen/Qwen3-1.7B": 1.72,
    "Qwen/Qwen3-4B": 4.02,
    "Qwen/Qwen3-8B": 8.19,
    "Qwen/Qwen3-14B": 14.77,
    "Qwen/Qwen3-32B": 32.76,
}

OLMO_CONFIG = {
    "model_type": "olmo",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 50304,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


@pytest.mark.parametrize(("model", "billions"), PUBLISHED.items())
def test_parameter_counts_are_the_published_ones(model, billions):
    shape = find_shape(model)
    assert shape is not None
    assert shape.params / 1e9 == pytest.approx(billions, rel=0.006)


def test_olmo_7b_has_the_counts_that_were_measured(olmo):
    assert olmo.linear_params == 6_476_005_376
    assert olmo.lora_params(16) == 39_976_960


def test_olmo_7b_is_downloaded_in_float32_which_is_27_6_gb(olmo):
    assert olmo.hub_bytes == 4
    assert olmo.download_bytes / 1e9 == pytest.approx(27.6, abs=0.1)


def test_a_models_own_config_gives_the_shape_of_the_table(olmo):
    read = shape_from_config_json(OLMO_CONFIG)
    assert read.params == olmo.params
    assert read.download_bytes == olmo.download_bytes


def test_missing_key_value_heads_mean_as_many_as_heads():
    config = {key: value for key, value in OLMO_CONFIG.items() if key != "num_key_value_heads"}
    assert shape_from_config_json(config).kv_heads == 32


def test_a_mixture_of_experts_counts_all_experts_but_computes_only_some():
    config = {**OLMO_CONFIG, "num_experts": 8, "num_experts_per_tok": 2, "torch_dtype": "bfloat16"}
    shape = shape_from_config_json(config)
    assert shape.linear_params > 3 * shape.active_linear_params
    assert shape.hub_bytes == 2


@pytest.mark.parametrize("wrong", [None, 0, -1, "4096", True, 4096.0])
def test_a_config_without_a_usable_size_names_the_key(wrong):
    with pytest.raises(ValueError, match="hidden_size"):
        shape_from_config_json({**OLMO_CONFIG, "hidden_size": wrong})


def test_adapters_on_fewer_modules_are_smaller_and_unknown_modules_count_nothing(olmo):
    assert olmo.lora_params(16, ("q_proj", "v_proj")) == 32 * 16 * 2 * 8192
    assert olmo.lora_params(16, ("nonsense",)) == 0
    assert olmo.lora_params(16, "all-linear") == olmo.lora_params(16)


def test_models_are_found_whatever_their_case_and_others_are_not_guessed():
    assert find_shape("ALLENAI/olmo-7b-instruct-HF") is not None
    assert find_shape("somebody/olmo-7b") is None
    assert len(known_models()) > 40
