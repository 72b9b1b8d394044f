import { crc32 } from 'node:zlib'

/** One key, one partition: what keeps a device's messages in order. Both adapters share it. */
export const partitionOf = (key: string, partitions: number): number => crc32(key) % partitions
