import { Argument, type Command } from 'commander'
import { eventSchema } from '../api/contract.ts'
import { crlSchema, ISSUER_STATUSES } from '../api/fleet-contract.ts'
import { connectServer, ending, readInput, serverOptions, type ServerOptions } from './server-client.ts'

/** What a fleet takes back for many devices at once: a CA's own revocation list, or everything that a CA issued. */
interface FleetOptions extends ServerOptions { fleet: string; json?: boolean }

export function registerRevoke(fleet: Command): void {
  serverOptions(fleet.command('import-crl'))
    .description('Import the revocation list of a CA: full, signed, and newer than the one that is there')
    .argument('<list>', 'the list, PEM')
    .option('--issuer <file>', 'certificate of the CA that made it (PEM), and those up to the anchor, where no anchor made it')
    .option('--fleet <name>', 'the fleet', 'default')
    .option('--json', 'print one line of JSON')
    .action(ending('fleet import-crl', async (list: string, options: FleetOptions & { issuer?: string }) => {
      const server = connectServer(options)
      const issuer = options.issuer === undefined ? '' : readInput(options.issuer).toString('utf8')
      const crl = await server.post(`/fleets/${encodeURIComponent(options.fleet)}/crls`, { pem: readInput(list).toString('utf8'), issuer }, crlSchema)
      if (options.json) console.log(JSON.stringify({ fleet: options.fleet, ...crl }))
      else console.log(`List ${crl.number} of ${crl.issuer} takes back ${crl.revoked} certificates, good until ${crl.next_update}. Every ingest process knows within 5 s.`)
    }))

  serverOptions(fleet.command('issuer'))
    .description('Disable or allow all devices of an issuer')
    .argument('<issuer>', 'its name, as a crash shows it, such as "CN=acme device CA,O=acme"')
    .addArgument(new Argument('<status>').choices([...ISSUER_STATUSES]))
    .requiredOption('--reason <text>', 'kept in the audit log')
    .option('--fleet <name>', 'the fleet', 'default')
    .option('--json', 'print one line of JSON')
    .action(ending('fleet issuer', async (issuer: string, status: string, options: FleetOptions & { reason: string }) => {
      const event = await connectServer(options).post(`/fleets/${encodeURIComponent(options.fleet)}/issuers`, { issuer, status, reason: options.reason }, eventSchema)
      if (options.json) console.log(JSON.stringify(event))
      else console.log(`Devices of ${issuer} are now ${status} in fleet ${options.fleet}. Every ingest process knows within 5 s.`)
    }))
}
