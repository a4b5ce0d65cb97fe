// The program launch makes the box of a service and becomes the service.
package main

import "cloison/target/confine"

func main() { confine.Main() }
