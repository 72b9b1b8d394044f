import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { InvalidArgumentError, type Command } from 'commander'
import { createFleet, type DeviceKeyType } from './fleet.ts'

export { createFleet, issueDevice, type Fleet, type FleetDevice, type FleetOptions } from './fleet.ts'

/**
 * `overrun fleet init DIR`: a CA, an intermediate and device certificates as PEM, with keys that openssl reads. For trying
 * out and for tests; a real fleet's CA belongs into hardware, and its devices make their own keys.
 *
 *   DIR/ca.pem ca.key.pem intermediate.pem intermediate.key.pem devices/SERIAL/{cert.pem,chain.pem,key.pem}
 */
export function registerFleetInit(fleet: Command): void {
  fleet.command('init')
    .description('Make a demo CA, an intermediate and device certificates as PEM files')
    .argument('<dir>', 'folder to write to; must not hold a fleet yet')
    .option('--devices <n>', 'how many devices', count, 3)
    .option('--fleet <name>', 'goes into subjects and serial numbers', fleetName, 'demo')
    .option('--key-type <type>', 'p256, p384 or ed25519', keyType, 'p256')
    .option('--json', 'print one line of JSON')
    .action((dir: string, options: { devices: number; fleet: string; keyType: DeviceKeyType; json?: boolean }) => {
      if (existsSync(join(dir, 'ca.pem'))) {
        console.error(`fleet init: ${join(dir, 'ca.pem')} exists already; a fleet's CA is never overwritten. Choose another folder.`)
        process.exitCode = 20
        return
      }
      const made = createFleet({ devices: options.devices, keyType: options.keyType, name: options.fleet, now: Date.now() })
      write(dir, 'ca.pem', made.ca.pem)
      write(dir, 'ca.key.pem', made.ca.keyPem, 0o600)
      write(dir, 'intermediate.pem', made.intermediate.pem)
      write(dir, 'intermediate.key.pem', made.intermediate.keyPem, 0o600)
      const devices = made.devices.map(({ serial, certificatePem, chainPem, keyPem }) => {
        const home = join(dir, 'devices', serial)
        write(home, 'cert.pem', certificatePem)
        write(home, 'chain.pem', chainPem)
        write(home, 'key.pem', keyPem, 0o600)
        return { serial, dir: home }
      })
      const anchor = join(dir, 'ca.pem')
      if (options.json) {
        console.log(JSON.stringify({ fleet: options.fleet, anchor, devices }))
        return
      }
      for (const device of devices) console.log(device.dir)
      console.error(`Made ${devices.length} devices of ${options.fleet}. Next:\n  npm run overrun -- fleet add-anchor ${anchor}\n`
        + `  npm run overrun -- send DUMP --device ${devices[0]?.dir ?? 'DIR'}`)
    })
}

function write(dir: string, file: string, text: string, mode = 0o644): void {
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, file), text, { mode, flag: 'wx' })
}

function count(text: string): number {
  const n = Number(text)
  if (!Number.isSafeInteger(n) || n < 0 || n > 100_000) throw new InvalidArgumentError('a number from 0 to 100000 is expected')
  return n
}

function fleetName(text: string): string {
  if (!/^[a-z0-9][a-z0-9._-]{0,40}$/.test(text)) throw new InvalidArgumentError('lower-case letters, digits, ".", "_" and "-" are expected, at most 41')
  return text
}

function keyType(text: string): DeviceKeyType {
  if (text === 'p256' || text === 'p384' || text === 'ed25519') return text
  throw new InvalidArgumentError('p256, p384 or ed25519 is expected')
}
