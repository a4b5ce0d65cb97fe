// Command logd keeps the log. See cloison/target/log.
package main

import "cloison/target/log"

func main() { log.Main() }
