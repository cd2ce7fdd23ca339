// Ports for servers that have to be told theirs.
import { once } from 'node:events'
import net from 'node:net'

/**
 * Below those that systems give to connections (from 32,768 up on Linux): such a port is nobody's between this look at it and
 * the server's.
 */
const FIRST = 10_000
const LAST = 32_767

/**
 * @param taken - One that another server is about to listen at.
 * @returns one that nobody listens at, on the loopback address.
 */
export const freePort = async (taken?: number): Promise<number> => {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST + 1))
    if (port === taken) continue
    const server = net.createServer()
    try {
      await once(server.listen(port, '127.0.0.1'), 'listening')
      return port
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    } finally {
      server.close()
    }
  }
}
