// Command hostkeyd has the machine's SSH host key: see cloison/target/hostkey.
package main

import "cloison/target/hostkey"

func main() { hostkey.Main() }
