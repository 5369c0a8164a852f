"""Model folders of the Hugging Face hub, read and written.

Other rooms read `adapter` (write_adapter_folder), `convention` (check_tokenizer, is_own,
own_tokenizer, stops), `export` (write_model_folder), `folder` (Pretrained, RUN_FILE,
check_pretrained, find_pretrained, json_object, pretrained_config, pretrained_folder), `pushing`
(check_push, push), `tensors` (open_weights), `weights` (load_params).
"""
