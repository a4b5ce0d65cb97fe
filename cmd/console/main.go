// Command console is the service at the machine's console. See
// cloison/target/console.
package main

import "cloison/target/console"

func main() { console.Main() }
