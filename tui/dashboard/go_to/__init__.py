"""The go-to line: views, commands, models, chats, machines and help, by what they are called."""
