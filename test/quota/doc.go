// Package quota has no code: its test has the guest of cloison/test/guest give
// folders of a real ext4 to projects, and sees that nobody takes more than his
// share. It needs what that guest needs.
package quota
