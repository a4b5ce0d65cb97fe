// Command timed is the time service. See cloison/target/clock.
package main

import "cloison/target/clock"

func main() { clock.Main() }
