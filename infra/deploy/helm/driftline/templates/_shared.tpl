{{/* The settings that every process has. */}}
{{- define "driftline.settings" -}}
- {name: DRIFTLINE_ZONES, value: {{ .Values.zones | toJson | quote }}}
- {name: DRIFTLINE_KAFKA__BOOTSTRAP, value: {{ required "kafka.bootstrap: host:port of the Kafka cluster" .Values.kafka.bootstrap | quote }}}
- {name: DRIFTLINE_KAFKA__PREFIX, value: {{ .Values.kafka.prefix | quote }}}
- {name: DRIFTLINE_KAFKA__PARTITIONS, value: {{ .Values.kafka.partitions | quote }}}
- {name: DRIFTLINE_KAFKA__REPLICATION, value: {{ .Values.kafka.replication | quote }}}
- {name: DRIFTLINE_KAFKA__SECURITY_PROTOCOL, value: {{ .Values.kafka.securityProtocol | quote }}}
{{- if hasPrefix "SASL" .Values.kafka.securityProtocol }}
- {name: DRIFTLINE_KAFKA__SASL_MECHANISM, value: {{ .Values.kafka.saslMechanism | quote }}}
{{- end }}
{{- if .Values.kafka.caSecret }}
- {name: DRIFTLINE_KAFKA__CA_FILE, value: /etc/driftline/ca/ca.pem}
{{- end }}
{{- if .Values.registry.url }}
- {name: DRIFTLINE_REGISTRY__URL, value: {{ .Values.registry.url | quote }}}
{{- end }}
{{- end }}

{{/* What no container here may do. */}}
{{- define "driftline.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
{{- end }}
