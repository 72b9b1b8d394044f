import { Link } from '@tanstack/react-router'
import type { AlertsPage, AlertSummary } from '../../../api/contract.ts'
import { useApi } from '../api.ts'
import { Badge, Empty, Loaded, Page, SeverityBadge } from '../parts/basics.tsx'
import { ago, count, DETECTORS, oneIn } from '../words.ts'

/** What might be somebody probing; each says why it may not be. */
export function CampaignsPage() {
  const answer = useApi<AlertsPage>('/alerts?limit=200')
  return (
    <Page title="Campaigns" sub="Crashes that a detector grouped because chance, a release or an outage explain them badly.">
      <Loaded answer={answer}>
        {(data) => <Queues alerts={data.items} now={data.as_of} />}
      </Loaded>
    </Page>
  )
}

/** What is no attack in the eyes of the detectors is shown apart, so that a bad release never looks like a campaign. */
function Queues({ alerts, now }: { alerts: AlertSummary[]; now: string }) {
  const security = alerts.filter(({ queue }) => queue === 'security')
  const others = alerts.filter(({ queue }) => queue !== 'security')
  return (
    <>
      <section className="panel">
        {security.length === 0 ? <Empty>Nobody seems to be probing this fleet. Detectors look every few seconds, at signed and authenticated crashes only.</Empty> : <AlertTable alerts={security} now={now} />}
      </section>
      {others.length > 0 && <section className="panel"><h2>Surprising, but no campaign: releases and outages</h2><AlertTable alerts={others} now={now} /></section>}
    </>
  )
}

export function AlertTable({ alerts, now }: { alerts: AlertSummary[]; now: string }) {
  return (
    <div className="scroll">
      <table>
        <thead><tr><th>Severity</th><th>What</th><th className="right">Devices</th><th className="right">Crashes</th><th>Chance</th><th>Since</th><th>State</th></tr></thead>
        <tbody>
          {alerts.map((alert) => (
            <tr key={alert.id}>
              <td><SeverityBadge severity={alert.severity} /></td>
              <td className="wrap-anywhere">
                <Link to="/campaigns/$id" params={{ id: alert.id }}><b>{alert.title}</b></Link>
                <div className="muted"><code>{alert.pattern}</code> {DETECTORS[alert.pattern] ?? ''}{alert.stratum !== '' && <> · {alert.stratum}</>}</div>
              </td>
              <td className="right"><b>{count(alert.devices)}</b></td>
              <td className="right">{count(alert.crashes)}</td>
              <td className="nowrap">{alert.ln_p === null ? '—' : oneIn(alert.ln_p)}</td>
              <td className="nowrap">{ago(alert.first_event, now)}</td>
              <td><Badge tone={alert.state === 'open' ? 'attack' : ''}>{alert.verdict?.verdict ?? alert.state}</Badge></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
