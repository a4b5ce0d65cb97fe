// Command sshd is one SSH connection: see cloison/target/ssh.
package main

import "cloison/target/ssh"

func main() { ssh.Main() }
