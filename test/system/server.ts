import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'

/** A child process that says on its output when it is ready. */
export interface Server { pid: number; stop(): Promise<void>; kill(): Promise<void> }

export async function startServer(command: string, args: readonly string[], ready: RegExp): Promise<Server> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const killWithUs = () => child.kill('SIGKILL')
  process.once('exit', killWithUs)
  child.once('exit', () => process.off('exit', killWithUs))
  await untilReady(child, ready)
  return { pid: child.pid!, stop: () => end(child, 'SIGTERM'), kill: () => end(child, 'SIGKILL') }
}

function untilReady(child: ChildProcess, ready: RegExp): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = ''
    const outputs = [child.stdout!, child.stderr!]
    const read = (chunk: Buffer) => {
      if (output.length < 1_000_000) output += chunk.toString()
      if (!ready.test(output)) return
      // What it says from now on is thrown away unread, so that it costs the process under measurement nothing.
      for (const stream of outputs) stream.off('data', read).resume()
      resolve()
    }
    for (const stream of outputs) stream.on('data', read)
    child.once('error', reject)
    child.once('exit', (code, signal) => reject(new Error(`${child.spawnfile} ended (${code ?? signal}) before it was ready:\n${output.slice(-2_000)}`)))
  })
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill(signal)
  await once(child, 'exit')
}
