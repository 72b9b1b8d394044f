import { openEmbeddedLog } from '../../infra/log/embedded.ts'
import { BrokenWorld } from '../../infra/service/errors.ts'

/** Appends until the disk is full, then counts what is kept. */
const directory = process.argv[2]!
process.on('SIGXFSZ', () => undefined)
const options = { directory, retention: { bytes: 1e9, ageMs: 1e9 } }
let log = await openEmbeddedLog(options)
let acknowledged = 0
try {
  for (;;) {
    await log.append('t', { key: 'd', value: new Uint8Array(100_000) })
    acknowledged++
  }
} catch (error) {
  if (!(error instanceof BrokenWorld)) throw error
  console.log(`rejected ${error.code} retryable ${error.retryable}`)
}
await log.check().then(() => console.log('check passes'), (error: BrokenWorld) => console.log(`check rejects ${error.name}`))
console.log(`acknowledged ${acknowledged}`)
await log.close()
log = await openEmbeddedLog(options)
console.log(`kept ${(await log.stats('t', 'worker')).lag}`)
process.exit(0)
