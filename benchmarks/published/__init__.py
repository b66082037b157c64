"""results/ and its page: one honest table a setting, made from the rows that recipes wrote.

Importing this package imports no torch.
"""
