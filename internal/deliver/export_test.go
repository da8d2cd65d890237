package deliver

// Idle closes the connections that no attempt uses.
func (e *Engine) Idle() { e.closeIdle() }
