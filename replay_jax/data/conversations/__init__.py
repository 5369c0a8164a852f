"""Records of which parts count in the loss: how they become text, and rows of whole documents.

Other rooms read `chat` (Chat, ConversationTaker, LOSS_ON), `chat_files` (of_the_hub, read_chat),
`marked` (Marked, Taker, TextField, UnfitTemplate), `messages` (Message, asked_of), `packing`
(Packing, pack), `templates` (RecordTemplate), `token_mask` (encoded_with_offsets, token_mask).
"""
