// Command initramfs is /init of the UKI: it opens the verified core and starts
// PID 1 in it. See cloison/target/boot.
package main

import "cloison/target/boot"

func main() { boot.Main() }
