import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Fleet } from '../../ingest/device/fleet.ts'

/** Ingest as a process of its own, on the log and the blobs that the settings name, for tests that kill it or weigh it. */
export interface IngestProcess {
  url: string
  pid: number
  /** Resident memory now, and the most since it began, as the kernel keeps them. */
  memory(): { resident: number; peak: number }
  kill(signal?: NodeJS.Signals): Promise<void>
}

export interface IngestProcessOptions { data: string; log?: object; blobs?: object; ingest?: object; killAfter?: 'dump-stored' }

export async function startIngestProcess(fleet: Fleet, options: IngestProcessOptions): Promise<IngestProcess> {
  mkdirSync(join(options.data, 'ingest'), { recursive: true })
  const sha256 = createHash('sha256').update(fleet.ca.certificate).digest('hex')
  writeFileSync(join(options.data, 'ingest/registry.json'), JSON.stringify({ v: 1, fleets: { demo: { settings: {}, anchors: { [sha256]: { pem: fleet.ca.pem, key_protection: 'software' } }, devices: {} } } }))
  const child = spawn(process.execPath, [join(import.meta.dirname, 'ingest-process-main.ts'), JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] })
  const killWithUs = () => child.kill('SIGKILL')
  process.once('exit', killWithUs)
  const gone = new Promise<void>((resolve) => child.once('exit', () => {
    process.off('exit', killWithUs)
    resolve()
  }))
  const first = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next()
  if (first.done) throw new Error('ingest ended before it was ready')
  return {
    ...JSON.parse(first.value) as { url: string },
    pid: child.pid!,
    memory() {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
      const field = (name: string) => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1])
      return { resident: field('VmRSS'), peak: field('VmHWM') }
    },
    async kill(signal = 'SIGKILL') {
      child.kill(signal)
      await gone
    },
  }
}
