import { onSite } from './needs.js'

/** Figures of each service, in the text format of Prometheus. */
export const METRICS = {
  attestation: {
    id: 'get-attestation-metrics',
    summary: 'Figures of the attestation service',
    needs: onSite('TrustedAdmin.ReadTrustedHosts'),
    path: '/attestation/metrics',
  },
  'key-provider': {
    id: 'get-key-provider-metrics',
    summary: 'Figures of the key provider',
    needs: onSite('TrustedAdmin.ReadKMSTrust'),
    path: '/key-provider/metrics',
  },
  'control-plane': {
    id: 'get-control-plane-metrics',
    summary: 'Figures of the control plane',
    needs: onSite('System.Read'),
    path: '/control-plane/metrics',
  },
} as const
