"""Model folders of the Hugging Face hub, read and written.

Other rooms read `adapter` (write_adapter_folder), `convention` (check_tokenizer, is_own,
own_tokenizer), `export` (write_model_folder), `folder` (Pretrained, check_pretrained,
find_pretrained, json_object, pretrained_config, pretrained_folder), `pushing` (check_push, push),
`weights` (load_params).
"""
