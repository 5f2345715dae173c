package telemetry

// Abandon gives the spool back as the end of a process does.
func Abandon(e *Emitter) error { return e.spool.Close() }
