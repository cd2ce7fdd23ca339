// The network between an environment and a server on another machine. Lambda does not end an environment like a process:
// its machine is gone from one moment to the next, with nobody left who could close its connections. On one machine the
// kernel would. So this passes on what the environment sends, but not that it has hung up.
import { once } from 'node:events'
import net from 'node:net'

export type Network = {
  readonly host: string
  readonly port: number
  /** Closes what is still open, as keepalive probes without an answer would after hours. */
  notice(): void
  close(): void
}

export const openNetwork = async (server: { host: string; port: number }): Promise<Network> => {
  const open = new Set<net.Socket>()
  const listener = net.createServer({ allowHalfOpen: true }, near => {
    const far = net.connect({ ...server, noDelay: true })
    open.add(far)
    near.on('data', data => far.write(data))
    near.on('error', () => {})
    far.on('data', data => near.write(data))
    far.on('error', () => {})
    far.on('close', () => {
      open.delete(far)
      near.destroy()
    })
  })
  await once(listener.listen(0, '127.0.0.1'), 'listening')
  const { port } = listener.address() as net.AddressInfo
  const notice = () => {
    for (const far of open) far.destroy()
  }
  return {
    host: '127.0.0.1',
    port,
    notice,
    close() {
      notice()
      listener.close()
    },
  }
}
