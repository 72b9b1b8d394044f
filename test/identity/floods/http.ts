import { connect, type Socket } from 'node:net'

/** One keep-alive connection that says whole requests as bytes and looks at the status of the answer; opened again when the server has closed it. */
export interface Line {
  /** The status of the answer; 0 when the connection broke. */
  ask(request: Uint8Array): Promise<number>
  close(): void
}

export function openLine(port: number, from: string): Line {
  let open: Socket | null = null
  return {
    ask(request) {
      const socket = open ??= connect({ port, host: '127.0.0.1', localAddress: from, noDelay: true })
      return new Promise((resolve) => {
        let heard = ''
        const settle = (status: number, again: boolean) => {
          socket.removeAllListeners('data').removeAllListeners('close').removeAllListeners('error').on('error', () => {})
          if (!again) {
            socket.destroy()
            open = null
          }
          resolve(status)
        }
        socket.on('error', () => settle(0, false))
        socket.on('close', () => settle(0, false))
        socket.on('data', (chunk) => {
          heard += chunk.toString('latin1')
          const end = heard.indexOf('\r\n\r\n')
          const length = Number(/\r\ncontent-length: (\d+)/i.exec(heard)?.[1] ?? 0)
          if (end >= 0 && heard.length >= end + 4 + length) settle(Number(heard.slice(9, 12)), !/\r\nconnection: close/i.test(heard))
        })
        socket.write(request)
      })
    },
    close: () => void open?.destroy(),
  }
}

export const requestOf = (path: string, type: string, body: Uint8Array, headers = ''): Buffer =>
  Buffer.concat([Buffer.from(`POST ${path} HTTP/1.1\r\nHost: flood\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n${headers}\r\n`), body])
