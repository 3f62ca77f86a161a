// Package doctor proves package internal/doctor: it builds countries whose firewall has one rule, or two, or none, with
// parameters that are drawn, lets the doctor examine the network inside against a real gateway, and counts what it named.
package doctor
