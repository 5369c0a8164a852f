"""Commands about web navigation.

Other rooms read `arguments` (web_commands).
"""
