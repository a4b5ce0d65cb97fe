// Command configd keeps the machine's configuration and makes it hold. See
// cloison/target/config.
package main

import "cloison/target/config"

func main() { config.Main() }
