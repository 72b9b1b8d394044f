import { z } from 'zod'
import { lintAnchor } from '../../ingest/chain.ts'
import { isRefusal } from '../../ingest/outcome.ts'
import { iso } from '../queries/ask.ts'
import { readFleet, type StoredAnchor } from '../queries/fleet.ts'
import { ACTOR, type Api, type ApiDeps } from './api.ts'
import { anchorBodySchema, anchorSchema, eventSchema, fleetSchema, fleetSettingsSchema, removeAnchorBodySchema, scopeQuerySchema, type Fleet } from './contract.ts'
import { sayEvent } from './decisions.ts'
import { Refused } from './problems.ts'

/** A fleet's anchors and settings. Ingest reads the same events; what it would refuse as an anchor is refused here, with its words. */
const params = z.object({ fleet: scopeQuerySchema.shape.fleet.unwrap() })
const tags = ['fleets']

export function fleetRoutes(api: Api, deps: ApiDeps): void {
  const { clickhouse, clock, events } = deps

  api.get('/api/v1/fleets/:fleet', {
    schema: { summary: 'Anchors and settings of a fleet', tags, params, response: { 200: fleetSchema } },
  }, ({ params: { fleet } }) => fleetNow(fleet))

  api.post('/api/v1/fleets/:fleet/settings', {
    schema: { summary: 'Change some settings; the others stay', tags, params, body: fleetSettingsSchema, response: { 200: fleetSchema } },
  }, async ({ params: { fleet }, body }) => {
    const { settingsBody } = await readFleet(clickhouse, fleet)
    await events.append({ fleet, actor: ACTOR, kind: 'fleet.settings', subject: 'fleet', body: { ...settingsBody, ...body } })
    await deps.onRegistryChange()
    return fleetNow(fleet)
  })

  api.post('/api/v1/fleets/:fleet/anchors', {
    schema: { summary: 'Trust a CA', tags, params, body: anchorBodySchema, response: { 200: anchorSchema } },
  }, async ({ params: { fleet }, body: { pem, key_protection } }) => {
    const linted = lintAnchor(pem)
    if (isRefusal(linted)) throw new Refused('anchor-refused', linted.detail)
    const { sha256 } = linted.anchor
    const event = await events.append({ fleet, actor: ACTOR, kind: 'fleet.anchor-added', subject: `anchor:${sha256}`, body: { pem, key_protection, sha256 } })
    await deps.onRegistryChange()
    return described({ pem, key_protection, sha256, added_at: event.at, actor: event.actor })
  })

  api.post('/api/v1/fleets/:fleet/anchors/:sha256/remove', {
    schema: {
      summary: 'Trust a CA no longer', tags, params: params.extend({ sha256: z.string().regex(/^[0-9a-f]{64}$/) }), body: removeAnchorBodySchema, response: { 200: eventSchema },
    },
  }, async ({ params: { fleet, sha256 }, body }) => {
    const { anchors } = await readFleet(clickhouse, fleet)
    if (!anchors.some((anchor) => anchor.sha256 === sha256)) throw new Refused('not-found', `fleet ${fleet} has no anchor ${sha256}`)
    const event = await sayEvent(deps, { fleet, kind: 'fleet.anchor-removed', subject: `anchor:${sha256}`, body: { ...body, sha256 } })
    await deps.onRegistryChange()
    return event
  })

  async function fleetNow(fleet: string): Promise<Fleet> {
    const { settings, anchors } = await readFleet(clickhouse, fleet)
    return { fleet, settings, anchors: anchors.map(described), as_of: iso(clock.now()) }
  }
}

/** What was accepted once is shown, even where today's rules would refuse it. */
function described(anchor: StoredAnchor): Fleet['anchors'][number] {
  const linted = lintAnchor(anchor.pem)
  const { subject, keyType, notBefore, notAfter } = isRefusal(linted) ? { subject: linted.detail, keyType: 'unusable', notBefore: 0, notAfter: 0 } : linted
  return { ...anchor, subject, algorithm: keyType, not_before: iso(notBefore), not_after: iso(notAfter) }
}
