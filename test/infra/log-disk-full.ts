import { openEmbeddedLog } from '../../infra/log/embedded.ts'

/** Appends until the file may not grow any more; says what is acknowledged as it goes. With `count` it says what is kept. */
const [, , directory = '', count] = process.argv
process.on('SIGXFSZ', () => undefined)
const log = await openEmbeddedLog({ directory, retention: { bytes: 1e9, ageMs: 1e9 } })
if (count !== undefined) {
  console.log(`kept ${(await log.stats('t', 'worker')).lag}`)
  await log.close()
} else {
  for (let acknowledged = 1; ; acknowledged++) {
    await log.append('t', { key: 'd', value: new Uint8Array(100_000) }).catch(() => new Promise(() => setTimeout(() => process.exit(1), 5_000)))
    console.log(`acknowledged ${acknowledged}`)
  }
}
