import type { Command } from 'commander'
import { devicesPageSchema, eventSchema } from '../api/contract.ts'
import { registerForget } from './forget.ts'
import { connectServer, ending, serverOptions, type ServerOptions } from './server-client.ts'

/** `overrun device`: what a fleet's people decide about single devices. Each is a line of the audit log with its reason. */
interface DeviceOptions extends ServerOptions { fleet: string; reason: string; json?: boolean }

const STATUS_OF = {
  approve: { status: 'active', says: 'Admit devices, or let them report again' },
  disable: { status: 'disabled', says: 'Take no reports of devices until they are approved again' },
  revoke: { status: 'revoked', says: 'Never believe these devices again: their keys are in other hands' },
} as const

export function registerDevice(program: Command): void {
  const device = program.command('device').description('Single devices: who may report, and whose counters began anew')
  for (const [name, { status, says }] of Object.entries(STATUS_OF)) {
    deciding(device, name, says).action(ending(`device ${name}`, async (ids: string[], options: DeviceOptions) => {
      for (const id of ids) await say(id, 'status', { status, reason: options.reason }, `is now ${status}`, options)
    }))
  }
  deciding(device, 'rebase', 'Say that the boot count of devices began again, as after a factory reset')
    .addHelpText('after', '\nUntil then such a device counts as copied or set back: its reports are kept as stale-counter. Reports that the device still has from before\n'
      + 'the reset should be sent first. A security version below that of before the reset is a rollback all the same.')
    .action(ending('device rebase', async (ids: string[], options: DeviceOptions) => {
      for (const id of ids) await say(id, 'rebase', { reason: options.reason }, 'may use its counters anew', options)
    }))

  registerForget(device)

  serverOptions(device.command('pending'))
    .description('List devices that wait to be admitted, those seen last first')
    .option('--fleet <name>', 'the fleet', 'default')
    .option('--json', 'print one line of JSON for each')
    .action(ending('device pending', async (options: Omit<DeviceOptions, 'reason'>) => {
      const server = connectServer(options)
      for (let next: string | null = ''; next !== null;) {
        const cursor: string = next === '' ? '' : `&cursor=${encodeURIComponent(next)}`
        const page = await server.get(`/devices?fleet=${encodeURIComponent(options.fleet)}&status=pending&sort=last_seen&limit=200${cursor}`, devicesPageSchema)
        for (const { device, last_seen, swversion, hwmodel } of page.items) console.log(options.json ? JSON.stringify({ device, last_seen, swversion, hwmodel }) : device)
        next = page.next
      }
    }))
}

const deciding = (device: Command, name: string, says: string): Command => serverOptions(device.command(name))
  .description(says)
  .argument('<id...>', 'the devices, as the pages name them')
  .requiredOption('--reason <text>', 'kept in the audit log')
  .option('--fleet <name>', 'the fleet', 'default')
  .option('--json', 'print one line of JSON for each')

async function say(id: string, what: 'status' | 'rebase', body: object, then: string, options: DeviceOptions): Promise<void> {
  const event = await connectServer(options).post(`/devices/${encodeURIComponent(id)}/${what}?fleet=${encodeURIComponent(options.fleet)}`, body, eventSchema)
  console.log(options.json ? JSON.stringify(event) : `${id} ${then} in fleet ${options.fleet}. Every ingest process knows within 5 s.`)
}
