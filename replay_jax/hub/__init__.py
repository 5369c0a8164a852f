"""Model folders of the Hugging Face hub, read and written.

Other rooms read `convention` (check_tokenizer, is_own, own_tokenizer), `export`
(write_model_folder), `folder` (Pretrained, check_pretrained, find_pretrained, json_object,
pretrained_config, pretrained_folder), `weights` (load_params).
"""
