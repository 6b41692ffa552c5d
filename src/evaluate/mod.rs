//! Error rates with their protocol: genuine and impostor pairs, DET curve, bootstrap intervals, calibration.
