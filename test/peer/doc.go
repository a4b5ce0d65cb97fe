// Package peer holds what this tree makes against the tools that others wrote
// for the same formats. It has tests only; they need the SDK.
package peer
