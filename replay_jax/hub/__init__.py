"""Model folders of the Hugging Face hub, read and written.

Other rooms read `convention` (check_tokenizer), `export` (write_model_folder), `folder`
(Pretrained, check_pretrained, find_pretrained, pretrained_config), `weights` (load_params).
"""
