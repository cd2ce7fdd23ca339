// The floor for an internal extension in bash: how long Node.js takes at init to start one, and to hear a word from it.
import { readSync } from 'node:fs'

const start = performance.now()
const { spawn } = process.getBuiltinModule('node:child_process')
const child = spawn('/bin/bash', ['--norc', '-p', '-c', 'echo ready >&3; read -r _ <&3'], {
  env: {},
  detached: true,
  stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
})
const buffer = Buffer.alloc(16)
const sleep = new Int32Array(new SharedArrayBuffer(4))
for (let length = 0; length === 0; ) {
  try {
    length = readSync(child.stdio[3]._handle.fd, buffer)
  } catch {
    Atomics.wait(sleep, 0, 0, 0.1)
  }
}
console.log(performance.now() - start)
child.kill('SIGKILL')
process.exit()
