// Command logexport sends the log to collectors. See cloison/target/logexport.
package main

import "cloison/target/logexport"

func main() { logexport.Main() }
