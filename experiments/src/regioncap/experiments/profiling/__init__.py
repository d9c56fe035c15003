"""Where the time of captioning, training or encoding goes: spans of the stages, a trace, operators, memory."""
