// Command init is PID 1 of the core. See cloison/target/supervise.
package main

import "cloison/target/supervise"

func main() { supervise.Main() }
