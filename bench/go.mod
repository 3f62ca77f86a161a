module github.com/godwit-vpn/godwit/bench

go 1.26.0

toolchain go1.26.11

require golang.org/x/sys v0.49.0

require go.uber.org/goleak v1.3.0
