package cli

// onHangUp does nothing: there is no such signal here.
func (u *upgrade) onHangUp() (stop func()) { return func() {} }
