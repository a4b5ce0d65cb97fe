// Command netd is the network service: see cloison/target/network.
package main

import "cloison/target/network"

func main() { network.Main() }
