import { useQueryClient } from '@tanstack/react-query'
import { useSearch } from '@tanstack/react-router'
import { useState, type FormEvent } from 'react'
import type { DeadLettersPage, EventsPage, Whoami } from '../../../api/contract.ts'
import type { Fleet } from '../../../api/fleet-contract.ts'
import { ApiError, call, useApi } from '../api.ts'
import { Badge, Command, Empty, Loaded, Page } from '../parts/basics.tsx'
import { short, when } from '../words.ts'

export function SettingsPage() {
  const { fleet } = useSearch({ strict: false })
  const whoami = useApi<Whoami>('/whoami')
  return (
    <Page title="Settings">
      <Loaded answer={whoami}>{(who) => <FleetSettings name={fleet ?? who.fleet} />}</Loaded>
      <DeadLetters />
      <Audit />
    </Page>
  )
}

function FleetSettings({ name }: { name: string }) {
  const answer = useApi<Fleet>(`/fleets/${encodeURIComponent(name)}`)
  return (
    <Loaded answer={answer}>
      {(fleet) => (
        <>
          <section className="panel scroll">
            <h2>Anchors of fleet {fleet.fleet}</h2>
            {fleet.anchors.length === 0 ? <Empty>No device can prove itself yet: add the certificate of the CA that signs your devices’ certificates.</Empty> : (
              <table>
                <thead><tr><th>Subject</th><th>Key</th><th>Device keys kept in</th><th>Valid until</th><th>SHA-256</th><th>Its key</th></tr></thead>
                <tbody>{fleet.anchors.map((anchor) => <tr key={anchor.sha256}><td className="wrap-anywhere">{anchor.subject}</td><td>{anchor.algorithm}</td><td>{anchor.key_protection}</td><td>{when(anchor.not_after)}</td><td><code title={anchor.sha256}>{short(anchor.sha256)}</code></td><td><Badge tone={anchor.proven ? 'ok' : 'warn'} title={anchor.proven ? 'Whoever added it signed a challenge with its key' : 'Nobody has shown that the key of this CA is at hand'}>{anchor.proven ? 'proven' : 'not proven'}</Badge></td></tr>)}</tbody>
              </table>
            )}
            <Command text="npm run overrun -- fleet add-anchor ca.pem --key-protection hardware" />
          </section>
          <Admission fleet={fleet} />
          <Revoked fleet={fleet} />
          <NetFacing key={JSON.stringify(fleet.settings)} fleet={fleet} />
        </>
      )}
    </Loaded>
  )
}

/** Whom it believes beside its anchors. */
function Admission({ fleet }: { fleet: Fleet }) {
  const gateways = Object.keys(fleet.settings.gateways ?? {})
  const pending = fleet.settings.first_sight === 'pending'
  return (
    <section className="panel">
      <h2>Admission</h2>
      <p>{pending ? 'A new device counts only when somebody has admitted it; until then its crashes are kept aside.' : 'A device with a good certificate counts at first sight.'}</p>
      <Command text={`npm run overrun -- fleet first-sight ${pending ? 'active' : 'pending'}`} />
      {gateways.length > 0 && <p>Gateways that vouch for the devices behind them: {gateways.join(', ')}</p>}
    </section>
  )
}

/** What the fleet takes back for many devices at once. */
function Revoked({ fleet }: { fleet: Fleet }) {
  return (
    <section className="panel scroll">
      <h2>Revocation</h2>
      {fleet.crls.length === 0 ? <p className="muted">No list of a CA has been imported; single devices are revoked on their own pages.</p> : (
        <table>
          <thead><tr><th>List of</th><th>Number</th><th className="right">Takes back</th><th>Made</th><th>Good until</th></tr></thead>
          <tbody>{fleet.crls.map((crl) => <tr key={crl.subject}><td className="wrap-anywhere">{crl.issuer}</td><td>{crl.number}</td><td className="right">{crl.revoked}</td><td>{when(crl.this_update)}</td><td>{when(crl.next_update)}{crl.next_update < fleet.as_of && <> <Badge tone="warn">run out</Badge></>}</td></tr>)}</tbody>
        </table>
      )}
      {fleet.issuers.filter(({ status }) => status === 'disabled').map(({ issuer, reason }) => <p key={issuer} className="wrap-anywhere"><Badge tone="crit">disabled</Badge> {issuer} <span className="muted">{reason}</span></p>)}
      <Command text="npm run overrun -- fleet import-crl ca.crl" />
    </section>
  )
}

function NetFacing({ fleet }: { fleet: Fleet }) {
  const client = useQueryClient()
  const [said, setSaid] = useState<string | null>(null)
  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const names = String(new FormData(event.currentTarget).get('names') ?? '').split(',').map((name) => name.trim()).filter((name) => name !== '')
    try {
      await call(`/fleets/${encodeURIComponent(fleet.fleet)}/settings`, { method: 'POST', body: { ...fleet.settings, net_facing: names } })
      setSaid('Saved.')
      await client.invalidateQueries()
    } catch (error) {
      setSaid(error instanceof ApiError ? error.problem.title : 'The dashboard does not answer.')
    }
  }
  return (
    <section className="panel">
      <h2>Compartments that face the network</h2>
      <p className="muted">A caught corruption in one of these weighs more: fewer devices are enough for an alert.</p>
      <form className="filters" onSubmit={(event) => void submit(event)}>
        <input name="names" aria-label="Compartments, separated by commas" defaultValue={(fleet.settings.net_facing ?? []).join(', ')} placeholder="httpd, mqtt" />
        <button className="action" type="submit">Save</button>
        {said !== null && <span role="status">{said}</span>}
      </form>
    </section>
  )
}

function DeadLetters() {
  const answer = useApi<DeadLettersPage>('/dead-letters?limit=20')
  return (
    <section className="panel scroll">
      <h2>Dead letters</h2>
      <Loaded answer={answer}>
        {(data) => data.items.length === 0 ? <p className="muted">None: every accepted report became a crash.</p> : (
          <table><thead><tr><th>When (UTC)</th><th>Stage</th><th>Reason</th><th>Position</th></tr></thead>
            <tbody>{data.items.map((letter) => <tr key={`${letter.partition}/${letter.offset}`}><td className="nowrap">{when(letter.at)}</td><td>{letter.stage}</td><td className="wrap-anywhere"><code>{letter.slug}</code> {letter.reason}</td><td className="mono">{letter.topic}/{letter.partition}/{letter.offset}</td></tr>)}</tbody>
          </table>
        )}
      </Loaded>
    </section>
  )
}

function Audit() {
  const answer = useApi<EventsPage>('/events?limit=50')
  return (
    <section className="panel scroll">
      <h2>Audit log</h2>
      <Loaded answer={answer}>
        {(data) => data.items.length === 0 ? <p className="muted">Nothing has been changed yet.</p> : (
          <table><thead><tr><th>When (UTC)</th><th>Who</th><th>What</th><th>Subject</th><th>Chain</th></tr></thead>
            <tbody>{data.items.map((event) => <tr key={event.hash}><td className="nowrap">{when(event.at)}</td><td>{event.actor}</td><td>{event.kind}</td><td className="wrap-anywhere">{event.subject}</td><td><Badge tone={event.intact ? 'ok' : 'crit'}>{event.intact ? 'intact' : 'broken'}</Badge></td></tr>)}</tbody>
          </table>
        )}
      </Loaded>
    </section>
  )
}
