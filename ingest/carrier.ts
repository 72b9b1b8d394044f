import type { Blobs } from '../infra/blobs/blobs.ts'
import type { Clock } from '../infra/service/clock.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { Accept } from './accept.ts'
import type { Limits } from './config.ts'
import type { ChargeQuota } from './quota.ts'
import type { Budget } from './spool.ts'
import type { Throttle } from './throttle.ts'

/** What every way of bringing a dump is handed: who may send how much, where a large dump goes, and who takes the crash. */
export interface CarrierDeps {
  accept: Accept
  throttle: Throttle
  charge: ChargeQuota
  blobs: Blobs
  budget: Budget
  clock: Clock
  logger: Logger
  limits: Limits
}
