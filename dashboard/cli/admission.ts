import { Argument, type Command } from 'commander'
import { eventSchema } from '../api/contract.ts'
import { fleetSchema, gatewaySchema } from '../api/fleet-contract.ts'
import { connectServer, ending, serverOptions, type ServerOptions } from './server-client.ts'

/** Whom a fleet believes beside its anchors: devices at first sight or by name only, and gateways that vouch for what is behind them. */
interface FleetOptions extends ServerOptions { fleet: string; json?: boolean }

export function registerAdmission(fleet: Command): void {
  ofFleet(fleet.command('first-sight'))
    .description('Whether a device that nobody has decided about counts at once (active) or only when it is approved (pending)')
    .addArgument(new Argument('<policy>').choices(['active', 'pending']))
    .addHelpText('after', '\nDevices that are known when the policy becomes pending are admitted. The reports of a pending device are kept and shown, and are in no baseline\n'
      + 'and no detector. See: overrun device pending, overrun device approve')
    .action(ending('fleet first-sight', async (policy: string, options: FleetOptions) => {
      const { settings } = await connectServer(options).post(`/fleets/${encodeURIComponent(options.fleet)}/settings`, { first_sight: policy }, fleetSchema)
      console.log(options.json ? JSON.stringify({ fleet: options.fleet, settings }) : `New devices of fleet ${options.fleet} are ${policy} at first sight. Every ingest process knows within 5 s.`)
    }))

  ofFleet(fleet.command('add-gateway'))
    .description('Let a gateway vouch for the devices behind it; prints its token, once. An older token of the same name ends')
    .argument('<name>', 'goes before the names of its devices, as NAME/DEVICE')
    .action(ending('fleet add-gateway', async (name: string, options: FleetOptions) => {
      const { token } = await connectServer(options).post(`/fleets/${encodeURIComponent(options.fleet)}/gateways`, { name }, gatewaySchema)
      console.log(options.json ? JSON.stringify({ fleet: options.fleet, name, token }) : token)
    }))

  ofFleet(fleet.command('remove-gateway'))
    .description('Believe a gateway no longer')
    .argument('<name>')
    .requiredOption('--reason <text>', 'kept in the audit log')
    .action(ending('fleet remove-gateway', async (name: string, options: FleetOptions & { reason: string }) => {
      const event = await connectServer(options).post(`/fleets/${encodeURIComponent(options.fleet)}/gateways/${encodeURIComponent(name)}/remove`, { reason: options.reason }, eventSchema)
      console.log(options.json ? JSON.stringify(event) : `Fleet ${options.fleet} believes gateway ${name} no longer. Every ingest process knows within 5 s.`)
    }))
}

const ofFleet = (command: Command): Command => serverOptions(command).option('--fleet <name>', 'the fleet', 'default').option('--json', 'print one line of JSON')
